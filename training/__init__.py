"""How the bundled tiny model was made: its world, its training, its export. In the repository only, in no wheel."""
