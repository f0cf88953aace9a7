"""Evaluation protocols: what a pre-trained backbone is worth. Each protocol with training in it is a `leoclr.work.Work`.

`metrics` scores, `features` runs a model over a split, `knn` votes; `linear`, `finetune` and `detection` train. The test
split is read in `finish` alone. Where several workers train, each of them scores the whole test split with its own copy,
so the scores need no communication; the first worker's count.
"""
