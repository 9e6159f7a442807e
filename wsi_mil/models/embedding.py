"""The layer that turns features of a frozen encoder into embeddings."""

from torch import nn


def create_embedding(feature_dim: int, embed_dim: int | None, dropout: float) -> tuple[nn.Module, int]:
    """Linear, ReLU, dropout, and the length of what comes out; None takes the features as they are."""
    if embed_dim is None:
        return nn.Dropout(dropout), feature_dim
    return nn.Sequential(nn.Linear(feature_dim, embed_dim), nn.ReLU(inplace=True), nn.Dropout(dropout)), embed_dim
