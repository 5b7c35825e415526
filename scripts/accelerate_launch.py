"""`accelerate launch`, with its arguments: accelerate's own program, without its other commands, imported quickly."""

from gluegrid.quick_imports import quick_imports

with quick_imports():
    from accelerate.commands.launch import main

if __name__ == "__main__":
    main()
