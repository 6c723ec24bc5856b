"""`python -m extproc` is `infer-gateway`."""

from extproc.main import main

main()
