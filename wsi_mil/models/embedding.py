"""The layer that turns features of a frozen encoder into embeddings."""

from torch import Tensor, nn


class Embedding(nn.Sequential):
    """Linear, ReLU, dropout on every instance by itself.

    Instances of all bags are rows of one matrix, so that the ReLU can work in place: on a view of it autograd would copy.
    """

    def __init__(self, feature_dim: int, embed_dim: int, dropout: float, *, bias: bool = True):
        super().__init__(nn.Linear(feature_dim, embed_dim, bias=bias), nn.ReLU(inplace=True), nn.Dropout(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """`(batch_size, n_instances, feature_dim)` → `(batch_size, n_instances, embed_dim)`."""
        embedded = features.flatten(0, 1)
        for layer in self:
            embedded = layer(embedded)
        return embedded.view(*features.shape[:2], -1)


def create_embedding(feature_dim: int, embed_dim: int | None, dropout: float, *, bias: bool = True) -> tuple[nn.Module, int]:
    """An embedding and its length; None takes the features as they are."""
    if embed_dim is None:
        return nn.Dropout(dropout), feature_dim
    return Embedding(feature_dim, embed_dim, dropout, bias=bias), embed_dim
