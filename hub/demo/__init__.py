"""The demo: ten back-offices, a stream of requests, planted faults, and a harness that counts.

Nothing here is trusted by the hub or trusts it: what was posted is in the loader's journal, what
took effect is in the back-offices' own databases, and `verdict.judge` compares the two.
"""
