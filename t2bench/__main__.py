"""`python -m t2bench`: the same as the `t2bench` command, also from a checkout that was never installed."""

from t2bench.cli.main import main

if __name__ == "__main__":
    main()
