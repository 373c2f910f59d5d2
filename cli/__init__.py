"""The command line: `pocketrec`."""
