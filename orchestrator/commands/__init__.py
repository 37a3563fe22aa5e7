"""The commands of `ltx-relay`, one module each, and what they share.

    options    the flags of `generate` and `plan`, declared once
    asked      those flags as `Settings`
    pages      the help pages
    bare       a prompt in the place of a command
    manners    what a run does beside its work: awake, nice, a command at its end
    complete   what the tab key offers
    ends       how an error, a signal or a mistake of ours is told, and its exit code
    generate, plan, runs, report, reuse, cache, weights, weights_list, download, doctor    the commands

What a command needs beyond the command line is imported inside it: `--help` stays quick.
"""
