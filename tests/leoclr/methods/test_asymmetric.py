import pytest

from leoclr.augment.views import View
from leoclr.methods.asymmetric import AsymmetricAugmentation


def test_pair_is_byols() -> None:
    """Parameters used to generate image augmentations, appendix of arXiv:2006.07733."""
    alike = {"size": 32, "crop_scale": (0.08, 1.0), "jitter": (0.4, 0.4, 0.2, 0.1), "jitter_p": 0.8, "gray_p": 0.2}
    first = View(**alike, blur_p=1.0, solarize_p=0.0)
    assert AsymmetricAugmentation().pair(32) == (first, View(**alike, blur_p=0.1, solarize_p=0.2))


def test_each_field_goes_to_its_view() -> None:
    first, second = AsymmetricAugmentation(
        blur_p=0.5, solarize_p=0.6, second_blur_p=0.7, second_solarize_p=0.8, flip_p=0.9
    ).pair(8)
    assert (first.blur_p, first.solarize_p, first.flip_p) == (0.5, 0.6, 0.9)
    assert (second.blur_p, second.solarize_p, second.flip_p) == (0.7, 0.8, 0.9)


@pytest.mark.parametrize("field", ["solarize_p", "second_blur_p", "second_solarize_p", "blur_p"])
def test_names_the_field_that_is_out_of_range(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be a probability"):
        AsymmetricAugmentation(**{field: 1.5})
