import pytest

from leoclr.augment.views import TestView


@pytest.mark.parametrize("size", [0, 33])
def test_a_test_view_larger_than_its_image_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size: "):
        TestView(resize=32, size=size)
