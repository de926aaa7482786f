"""The recurrent models that tests go through: kinds of cells, and how a decoder hears its source."""

KINDS = ("rnn", "gru", "lstm")
SHAPES = {
    "additive": {"bridge": "attention", "score": "additive"},
    "dot": {"bridge": "attention", "score": "dot"},
    "state": {"bridge": "state"},
    "decoder": {"arch": "decoder"},
    "encoder": {"arch": "encoder"},
}
