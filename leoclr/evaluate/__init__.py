"""Evaluation protocols: what a pre-trained backbone is worth.

`metrics` scores, `features` runs a model over a split, `knn` votes; `linear`, `finetune` and `detection` train, and
`chain` runs several of them in turn: each is a `leoclr.work.Work`. The test split is read in `finish` alone. Where
several workers train, each scores the whole test split with its own copy: no communication, and the first one's count.
"""
