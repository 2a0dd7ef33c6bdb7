"""Who calls and what they may do. An endpoint's signature is its access rule:
`subject: Annotated[Subject, Depends(require("keys:write"))]`.
"""
