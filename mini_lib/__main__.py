"""`python -m mini_lib` is the same as the `mini-lib` command."""

from .cli import main

raise SystemExit(main())
