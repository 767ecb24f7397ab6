"""How each class is parsed strictly, judged and built anew; runs in the checker process, which has no key.

``contract`` is what every class keeps; the other modules are the rules that several classes share.
"""
