from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from wsi_mil.config import TransMIL
from wsi_mil.models import ClassLoss
from wsi_mil.models.nystrom import NystromAttention, pseudo_inverse
from wsi_mil.models.self_attention import ExactAttention, SelfAttention, exact_step_bytes
from wsi_mil.models.transmil import PPEG, square_of

SMALL = {"embed_dim": 16, "heads": 2, "landmarks": 4}
PUBLISHED = {**SMALL, "recipe": "published"}
both = pytest.mark.parametrize("attention", ["exact", "nystrom"])


def convolved_by_hand(layer: SelfAttention, h: int, values: Tensor) -> Tensor:
    """The values of head `h`, (n, head_dim), each channel convolved along the tokens."""
    kernel, rows = layer.residual.weight[h, 0], functional.pad(values, (0, 0, 16, 16))
    return torch.stack([(kernel[:, None] * rows[i : i + 33]).sum(0) for i in range(len(values))])


def exact_by_hand(layer: ExactAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output and attention matrices (heads, n, n), by the sums of exponentials."""
    q, k, v = (x @ w.T for w in layer.to_qkv.weight.chunk(3))
    head_dim, merged, matrices = x.shape[1] // layer.heads, [], []
    for h in range(layer.heads):
        cut = slice(h * head_dim, (h + 1) * head_dim)
        weights = torch.exp(torch.stack([(k[:, cut] @ q[i, cut]) / head_dim**0.5 for i in range(len(x))]))
        matrices.append(weights / weights.sum(1, keepdim=True))
        merged.append(matrices[-1] @ v[:, cut] + convolved_by_hand(layer, h, v[:, cut]))
    return torch.cat(merged, dim=1) @ layer.to_out.weight.T + layer.to_out.bias, torch.stack(matrices)


def nystrom_by_hand(layer: NystromAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output and approximated attention matrices (heads, n, n), with every matrix written out."""
    n, dim = x.shape
    m, heads, head_dim = layer.landmarks, layer.heads, x.shape[1] // layer.heads
    padded = torch.cat([torch.zeros(-n % m, dim), x])
    q, k, v = (padded @ w.T for w in layer.to_qkv.weight.chunk(3))
    starts, matrices, values = [], [], []
    per_mark = len(padded) // m
    for h in range(heads):
        cut = slice(h * head_dim, (h + 1) * head_dim)
        qh, kh, vh = q[:, cut] / head_dim**0.5, k[:, cut], v[:, cut]
        qm, km = (torch.stack([t[i * per_mark : (i + 1) * per_mark].mean(0) for i in range(m)]) for t in (qh, kh))
        starts.append(torch.softmax(qm @ km.T, 1))
        matrices.append((torch.softmax(qh @ km.T, 1), torch.softmax(qm @ kh.T, 1)))
        values.append(vh)
    b = torch.stack(starts)
    z = b.mT / (b.sum(2).max() * b.sum(1).max())
    for _ in range(6):
        z = 0.25 * z @ (13 * torch.eye(m) - b @ z @ (15 * torch.eye(m) - b @ z @ (7 * torch.eye(m) - b @ z)))
    full = torch.stack([f @ z[h] @ g for h, (f, g) in enumerate(matrices)])
    merged = []
    for h in range(heads):
        merged.append(full[h] @ values[h] + convolved_by_hand(layer, h, values[h]))
    out = torch.cat(merged, dim=1) @ layer.to_out.weight.T + layer.to_out.bias
    return out[-n:], full[:, -n:, -n:]


@pytest.mark.parametrize("n_tokens", [1, 3, 8, 50])
def test_nystrom_attention_is_the_product_of_three_matrices(n_tokens: int) -> None:
    torch.manual_seed(0)
    layer = NystromAttention(16, heads=2, landmarks=4, dropout=0.0).eval()
    x = torch.randn(n_tokens, 16)
    out, full = nystrom_by_hand(layer, x)
    found, attention = layer.with_class_attention(x[None])
    assert_close(found[0], out, rtol=1e-4, atol=1e-5)
    assert_close(layer(x[None]), found)
    assert_close(layer.first_row(x[None]), found[:, :1])
    assert_close(attention, full[:, 0, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_tokens", [1, 3, 8, 50])
def test_exact_attention_is_the_softmax_written_out(n_tokens: int) -> None:
    torch.manual_seed(0)
    layer = ExactAttention(16, heads=2, dropout=0.0).eval()
    x = torch.randn(n_tokens, 16)
    out, full = exact_by_hand(layer, x)
    found, attention = layer.with_class_attention(x[None])
    assert_close(found[0], out, rtol=1e-4, atol=1e-5)
    assert_close(layer(x[None]), found)
    assert_close(layer.first_row(x[None]), found[:, :1], rtol=1e-4, atol=1e-5)
    assert_close(attention, full[:, 0, 1:], rtol=1e-4, atol=1e-5)


def test_both_attentions_have_the_same_weights_by_name_and_shape(make: Callable) -> None:
    exact, nystrom = (make("transmil", **SMALL, attention=kind).state_dict() for kind in ("exact", "nystrom"))
    assert {name: value.shape for name, value in exact.items()} == {name: value.shape for name, value in nystrom.items()}


@both
def test_at_the_start_positions_and_neighbours_change_nothing(make: Callable, bag: Tensor, attention: str) -> None:
    model = make("transmil", **SMALL, attention=attention)
    tokens = torch.randn(1, 1 + 9, 16)
    assert torch.equal(model.position(tokens, 3), tokens)
    assert all(not layer.residual.weight.any() for layer in model.layers)
    random = make("transmil", **SMALL, attention=attention, position_start="random")
    assert (random.position(tokens, 3) - tokens)[:, 1:].abs().min(dim=1).values.max() > 1e-3
    assert torch.equal(random.position(tokens, 3)[:, 0], tokens[:, 0])
    assert all(layer.residual.weight.abs().min() > 0 for layer in random.layers)


@both
def test_what_starts_from_zero_learns_from_the_first_step(make: Callable, bag: Tensor, attention: str) -> None:
    model = make("transmil", **SMALL, attention=attention).train()
    model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(2))).backward()
    started = [*model.position.parameters(), *(layer.residual.weight for layer in model.layers)]
    assert len(started) == 8 and all(p.grad is not None and p.grad.abs().max() > 0 for p in started)


def test_the_largest_training_bag_settles_the_attention_once() -> None:
    entry = TransMIL(model="transmil", exact_up_to=300)
    assert [entry.settled(n).attention for n in (1, 300, 301, 10_000)] == ["exact", "exact", "nystrom", "nystrom"]
    assert entry.settled(301).settled(2).attention == "nystrom"
    for kind in ("exact", "nystrom"):
        assert TransMIL(model="transmil", attention=kind).settled(5).settled(10**6).attention == kind


def test_a_settled_model_is_of_one_kind_for_bags_of_every_size(make: Callable) -> None:
    for kind, layer in (("exact", ExactAttention), ("nystrom", NystromAttention)):
        model = make("transmil", **SMALL, attention=kind, exact_up_to=10)
        assert all(type(each) is layer for each in model.layers)
        for n in (5, 50):
            x = torch.randn(1, n, 16)
            by_hand = exact_by_hand if kind == "exact" else nystrom_by_hand
            assert_close(model.layers[0](x)[0], by_hand(model.layers[0], x[0])[0], rtol=1e-4, atol=1e-5)


def test_an_update_with_exact_attention_takes_memory_by_the_token_and_by_the_pair_where_matrices_are_written_out() -> None:
    size = {"dim": 512, "heads": 8}
    assert exact_step_bytes(1000, **size, device_type="cpu") == exact_step_bytes(1000, **size, device_type="cuda") == 61_440_000
    assert exact_step_bytes(1000, **size, device_type="mps") == 61_440_000 + 96_000_000
    assert exact_step_bytes(2000, **size, device_type="mps") == 2 * 61_440_000 + 4 * 96_000_000


def test_exact_attention_keeps_no_matrix_for_its_backward_pass(make: Callable) -> None:
    model, n, kept = make("transmil", **SMALL, attention="exact").train(), 900, {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.training_loss(torch.rand(1, n, 6), torch.tensor([1]), ClassLoss(torch.ones(2)))
    one_matrix, whole = 4 * SMALL["heads"] * n**2, exact_step_bytes(n, dim=16, heads=2, device_type="cpu")
    assert 0.2 * whole < sum(kept.values()) < whole < one_matrix


def test_the_iteration_inverts() -> None:
    torch.manual_seed(0)
    matrices = torch.softmax(torch.eye(5) * 4 + torch.randn(3, 5, 5), dim=-1)
    assert_close(pseudo_inverse(matrices), torch.linalg.inv(matrices), rtol=1e-2, atol=1e-2)


def test_ppeg_is_the_sum_of_token_and_three_convolutions() -> None:
    torch.manual_seed(0)
    ppeg, tokens = PPEG(6), torch.randn(1, 1 + 9, 6)
    raster = tokens[0, 1:].T.reshape(1, 6, 3, 3)
    expected = raster + ppeg.seven(raster) + ppeg.five(raster) + ppeg.three(raster)
    found = ppeg(tokens, 3)
    assert_close(found[:, 1:], expected.flatten(2).mT)
    assert_close(found[:, 0], tokens[:, 0])


@pytest.mark.parametrize(("n", "side", "repeated"), [(1, 1, 0), (2, 2, 2), (9, 3, 0), (10, 4, 6)])
def test_leading_instances_fill_the_square(make: Callable, n: int, side: int, repeated: int) -> None:
    assert square_of(n) == (side, repeated)
    model, bags = make("transmil", **SMALL), torch.rand(1, n, 6)
    filled = torch.cat([bags, bags[:, :repeated]], dim=1)
    assert filled.shape[1] == side**2
    assert_close(model(filled).logits, model(bags).logits)


@pytest.mark.parametrize("settings", [PUBLISHED, {**SMALL, "position_start": "random", "attention": "exact"}])
def test_transmil_is_two_residual_layers_around_the_positions(make: Callable, bag: Tensor, settings: dict) -> None:
    model = make("transmil", **settings)
    by_hand = nystrom_by_hand if settings is PUBLISHED else exact_by_hand
    h = torch.relu(model.embedding[0](bag))
    x = torch.cat([model.class_token, h], dim=1)
    mixed, full = by_hand(model.layers[0], model.norms[0](x)[0])
    x = model.position(x + mixed, 3)
    out, _ = by_hand(model.layers[1], model.norms[1](x)[0])
    assert_close(model(bag).logits, model.classifier(model.norm((x + out)[:, 0])), rtol=1e-4, atol=1e-5)
    strength = full[:, 0, 1:].abs().mean(0).double()
    assert_close(model.instance_scores(bag, 1)["attention"], strength / strength.sum(), rtol=1e-4, atol=1e-6)


def test_the_order_of_instances_matters_as_soon_as_positions_do(make: Callable, bag: Tensor) -> None:
    model = make("transmil", **SMALL, attention="exact")
    assert_close(model(bag.flip(1)).logits, model(bag).logits)
    model = make("transmil", **PUBLISHED)
    assert (model(bag.flip(1)).logits - model(bag).logits).abs().max() > 1e-4


@both
@pytest.mark.parametrize("n", [60, 64, 65])
def test_a_changed_tile_changes_its_own_attention_most(make: Callable, n: int, attention: str) -> None:
    wide = {"embed_dim": 64, "heads": 4, "landmarks": 16, "seed": 3, "position_start": "random"}
    model = make("transmil", **wide, attention=attention)
    bags = torch.rand(1, n, 6, generator=torch.Generator().manual_seed(5))
    for layer in (0, 1):
        before = model.class_attention(bags, layer=layer)
        assert before.shape == (4, n)
        found = []
        for changed in range(0, n, 7):
            other = bags.clone()
            other[0, changed] = torch.tensor([2.0, -2, 2, -2, 2, -2])
            moved = (model.class_attention(other, layer=layer) - before).abs().sum(0)
            found.append(int(moved.argmax()) == changed)
        assert all(found), (layer, found)


@both
def test_the_teachers_pass_scores_by_the_first_layer(make: Callable, bag: Tensor, attention: str) -> None:
    model = make("transmil", **SMALL, attention=attention)
    encoding, scores = model.encode_scored(model.embed(bag))
    assert_close(scores, model.class_attention(bag, layer=0))
    assert_close(model.classify(encoding), model(bag).logits)


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives."""

    numel = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.numel())
        return out


@both
def test_no_matrix_of_tiles_by_tiles_is_ever_held(make: Callable, attention: str) -> None:
    model, n = make("transmil", embed_dim=16, heads=2, landmarks=8, attention=attention).train(), 3000
    bags = torch.rand(1, n, 6)
    with Largest() as largest:
        model.training_loss(bags, torch.tensor([1]), ClassLoss(torch.ones(2))).backward()
        model.instance_scores(bags, 1)
    assert 16 * n <= largest.numel < 2 * 16 * (n + 200) < n * n / 10


def test_the_class_token_is_on_the_models_device_and_of_its_type(make: Callable, bag: Tensor) -> None:
    model = make("transmil", **SMALL).double()
    assert model(bag.double()).logits.dtype == torch.float64 and isinstance(model.class_token, nn.Parameter)


def test_gradients_of_two_bags_add_up_in_every_parameter(make: Callable[..., TransMIL]) -> None:
    """Parameters whose gradients share memory would get the second bag's several times."""
    first, second = torch.rand(1, 9, 6), torch.rand(1, 12, 6)
    found = []
    for bags in ((first,), (second,), (first, second)):
        model = make("transmil", embed_dim=16, heads=2, position_start="random")
        for one in bags:
            model(one).logits[0, 0].backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for a, b, both in zip(*found, strict=True):
        assert_close(both, a + b)
