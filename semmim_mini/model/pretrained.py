r"""Text weights from elsewhere, through transformers: names of the hub or local folders. For images see `pretrained_image.py`.

Any BERT-architecture model (BERT-base, MiniLM …) whose width is `text.width`. Its first `text.depth`
layers go into the text encoder [F: ALBEF] and, where it has more, the following ones into the fusion encoder, whose
cross-attention has no counterpart and starts fresh.
"""

from transformers import AutoConfig, AutoModel

from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.plain_values import first_line


def load_pretrained_text(model: SemMIM, name: str) -> None:
    """Fill text and fusion encoder of student and teacher.

    Raises:
        UserError: nothing loadable under that name, another architecture, another width or vocabulary.
    """
    target = model.student.text.bert
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _require_fitting(config, target, name)  # before memory is taken for it
        # Nothing is unpickled, and no code of the model's is run: other weights than safetensors are refused.
        source = AutoModel.from_pretrained(name, config=config, trust_remote_code=False, use_safetensors=True)
    except UserError:
        raise
    except Exception as error:  # what transformers and the hub raise changes with their versions
        reason = first_line(error)
        raise UserError(f"text.pretrained={name!r} cannot be loaded: {reason}; give a BERT by hub name or local folder") from error
    layers, own = source.encoder.layer, len(target.encoder.layer)
    target.embeddings.load_state_dict(_trimmed(source.embeddings.state_dict(), target.embeddings.state_dict()))
    for theirs, ours in zip(layers[:own], target.encoder.layer, strict=True):
        ours.load_state_dict(theirs.state_dict())
    for theirs, ours in zip(layers[own:], model.fusion.encoder.layer, strict=False):
        ours.load_state_dict(theirs.state_dict(), strict=False)
    model.teacher.text.load_state_dict(model.student.text.state_dict())


def _require_fitting(source, target, name: str) -> None:
    for field in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size"):
        theirs, ours = getattr(source, field, None), getattr(target.config, field)
        if theirs != ours:
            raise UserError(f"text.pretrained={name!r} has {field}={theirs}, this configuration {ours}; set the text.* fields to match")
    if source.model_type != "bert":
        raise UserError(f"text.pretrained={name!r} is a {source.model_type}; a model of BERT's architecture is needed")
    theirs, ours = source.max_position_embeddings, target.config.max_position_embeddings
    if theirs < ours:
        raise UserError(
            f"text.pretrained={name!r} knows {theirs} positions, fewer than the {ours} used here; choose another or lower data.max_length"
        )
    if source.num_hidden_layers < len(target.encoder.layer):
        raise UserError(f"text.depth={len(target.encoder.layer)} exceeds the {source.num_hidden_layers} layers of {name!r}")


def _trimmed(theirs: dict, ours: dict) -> dict:
    """Position embeddings are cut to the length in use; everything else is taken whole."""
    return {key: value[: len(ours[key])] for key, value in theirs.items() if key in ours}
