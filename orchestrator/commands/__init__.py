"""The commands of `ltx-relay`, one module each, and what they share.

    options    the flags of `generate` and `plan`, declared once
    asked      those flags as `Settings`
    pages      the help pages
    ends       how an error, a signal or a mistake of ours is told, and its exit code
    generate, plan, runs, reuse, cache    the commands

What a command needs beyond the command line is imported inside it: `--help` stays quick.
"""
