"""``python -m scanward.cli``: the same as ``scanward``, for launchers that start modules (torchrun)."""

from scanward.cli import main

if __name__ == "__main__":
    main()
