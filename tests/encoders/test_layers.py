import torch
from torch import Tensor, nn

from wsi_mil.encoders.layers import AttentionPooler, CoCaPooler, ConvStem, PooledTokens, ProjectedNetwork


class Tokens(nn.Module):
    """Gives the tokens it holds."""

    def __init__(self, tokens: Tensor, num_prefix_tokens: int):
        super().__init__()
        self.tokens, self.num_prefix_tokens = tokens, num_prefix_tokens

    def forward_features(self, _: Tensor) -> Tensor:
        return self.tokens


def test_registers_play_no_part_in_the_mean() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [50.0, 60.0], [70.0, 80.0], [3.0, 4.0], [5.0, 8.0]]])
    assert PooledTokens(Tokens(tokens, 3), "cls+mean")(torch.empty(0)).tolist() == [[1.0, 2.0, 4.0, 6.0]]
    other = tokens.clone()
    other[:, 1:3] = -9
    for pooling in ("cls", "mean", "cls+mean"):
        first, second = (PooledTokens(Tokens(each, 3), pooling)(torch.empty(0)) for each in (tokens, other))
        assert torch.equal(first, second)


def test_tokens_in_bfloat16_are_averaged_in_float32() -> None:
    tokens = torch.tensor([[[0.0]] + [[256.0]] * 3 + [[257.0]]]).to(torch.bfloat16)  # 257 is 256 in bfloat16
    tokens[0, 1, 0] = 1.0
    mean = PooledTokens(Tokens(tokens, 1), "mean")(torch.empty(0))
    assert mean.dtype == torch.float32 and mean.item() == (1 + 256 * 3) / 4


def test_conchs_pooler_is_attention_of_its_query_over_the_tokens() -> None:
    torch.manual_seed(0)
    pooler, tokens = AttentionPooler(context_dim=24, dim=16), torch.randn(2, 5, 24)
    context, query = pooler.ln_k(tokens), pooler.to_q(pooler.ln_q(pooler.query))[0].view(8, 2)
    key, value = pooler.to_kv(context)[..., :16].view(2, 5, 8, 2), pooler.to_kv(context)[..., 16:].view(2, 5, 8, 2)
    weights = torch.einsum("hd,nthd->nht", query, key).div(2**0.5).softmax(-1)
    expected = pooler.to_out(torch.einsum("nht,nthd->nhd", weights, value).reshape(2, 16))
    assert torch.allclose(pooler(tokens)[:, 0], expected, atol=1e-6) and pooler(tokens).shape == (2, 1, 16)


def test_the_conv_stem_makes_one_vector_of_four_by_four_pixels() -> None:
    stem = ConvStem(img_size=(32, 48), embed_dim=16).eval()
    out = stem(torch.randn(2, 3, 32, 48))
    assert out.shape == (2, 8, 12, 16) and stem.grid_size == (8, 12)
    assert torch.allclose(out.mean(-1), torch.zeros(2, 8, 12), atol=1e-5)  # normalised over channels


def test_the_pooler_of_conch_v1_is_attention_of_its_query_over_the_tokens() -> None:
    torch.manual_seed(0)
    pooler, tokens = CoCaPooler(context_dim=24, dim=16), torch.randn(2, 5, 24)
    attn, context, query = pooler.attn, pooler.ln_k(tokens), pooler.ln_q(pooler.query)
    bias_q, bias_k, bias_v = attn.in_proj_bias.chunk(3)
    q = (query @ attn.q_proj_weight.T + bias_q)[0].view(8, 2)
    k = (context @ attn.k_proj_weight.T + bias_k).view(2, 5, 8, 2)
    v = (context @ attn.v_proj_weight.T + bias_v).view(2, 5, 8, 2)
    weights = torch.einsum("hd,nthd->nht", q, k).div(2**0.5).softmax(-1)
    expected = attn.out_proj(torch.einsum("nht,nthd->nhd", weights, v).reshape(2, 16))
    assert torch.allclose(pooler(tokens)[:, 0], expected, atol=1e-6) and pooler(tokens).shape == (2, 1, 16)


def test_projected_features_have_length_one() -> None:
    torch.manual_seed(0)
    network = ProjectedNetwork(nn.Flatten(), 12, 6).eval()
    images = torch.randn(3, 3, 2, 2)
    first, _, second = network.visual_head
    expected = second(nn.functional.gelu(first(images.flatten(1))))
    found = network(images)
    assert torch.allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
