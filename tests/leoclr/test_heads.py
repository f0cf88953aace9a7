import pytest
import torch
from torch import nn

from leoclr.heads import embed, linear_head, mlp, projection


def test_mlp_is_moco_v2s_two_layers() -> None:
    head = projection(512, 128, kind="mlp")
    assert [tuple(parameter.shape) for parameter in head.parameters()] == [(512, 512), (512,), (128, 512), (128,)]
    features_NF = torch.randn(3, 512)
    first, second = head[0], head[2]
    expected = second(first(features_NF).clamp(min=0))
    torch.testing.assert_close(head(features_NF), expected)


def test_linear_is_one_layer() -> None:
    assert [tuple(parameter.shape) for parameter in projection(16, 8, kind="linear").parameters()] == [(8, 16), (8,)]


def test_mlp_normalizes_hidden_layers_and_the_last_one_where_asked() -> None:
    head = mlp((6, 8, 8, 4), hidden_bias=False, last_bias=True, last_norm="plain")
    names = [type(layer).__name__ for layer in head]
    assert names == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [layer.bias is not None for layer in head if isinstance(layer, nn.Linear)] == [False, False, True]
    assert [layer.affine for layer in head if isinstance(layer, nn.BatchNorm1d)] == [True, True, False]
    assert head(torch.randn(5, 6)).shape == (5, 4)
    assert [type(layer) for layer in mlp((6, 4), hidden_bias=True, last_bias=False)] == [nn.Linear]


def test_linear_head_starts_as_mocos() -> None:
    torch.manual_seed(0)
    head = linear_head(2048, 100)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert abs(head.weight.mean().item()) < 1e-4  # 5 standard errors: 0.01 / sqrt(204800)
    assert head.bias.count_nonzero().item() == 0


def test_embeddings_have_unit_rows() -> None:
    embedding_ND = embed(nn.Flatten(), nn.Linear(12, 5), torch.randn(7, 3, 2, 2))
    torch.testing.assert_close(embedding_ND.norm(dim=1), torch.ones(7))
