"""``python -m spry_py``, and the command ``spry-py``."""

import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    if sys.argv[1:] == ["--version"]:
        # scripts ask for it, and need nothing else of what the command line imports
        from spry_py._telemetry.attributes import library_version  # noqa: PLC0415

        print(f"spry-py {library_version()}")
        return 0
    from spry_py._program import cli  # noqa: PLC0415

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
