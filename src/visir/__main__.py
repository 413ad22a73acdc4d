"""``python -m visir``: the same as the command ``visir``; ``torchrun -m -- visir train ...`` starts several ranks."""

from visir.cli import main

if __name__ == "__main__":
    main()
