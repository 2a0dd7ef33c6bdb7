"""The conformance matrix: protocol x provider kind x streamed or not x how it ends, each cell a request through a real gateway.

`cells.py` says which cells there are, `expect.py` and `expect_media.py` what each must come to, worked out from what the doubles
send and never from the product, `money.py` what that costs, `drive.py` and `drive_media.py` how a client sees it (the official
SDKs), `rig.py` holds gateway and doubles, `page.py` writes docs/conformance.md:

    PYTHONPATH=. python -m tests.gateway.conformance
"""
