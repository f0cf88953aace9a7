"""The science of LeOCLR and its peers: torch, torchvision and numpy, nothing else.

LeOCLR (Alkhalefi, Leontidis, Zhong; TMLR 2024, arXiv:2403.06813) pulls two random crops of an image towards the
*un-cropped* original instead of towards each other: a crop's content is always inside the original, so what
the pair shares is semantically right.

Dimension key of every tensor name in this package (`query_ND` has images as rows and embedding values as columns):

    N  images of one worker's batch      B  images of the global batch (N summed over workers)
    D  embedding values (128)            F  feature values of a backbone (512 for ResNet-18)
    K  keys in the queue                 C  channels, or classes where a tensor holds scores
    H  rows of pixels                    W  columns of pixels
    V  views of an image                 M  steps
"""

RESULTS_VERSION = 3
"""Part of every fingerprint. It moves when a change moves numbers; `tests/golden/losses.json` notices."""
