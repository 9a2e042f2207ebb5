"""Publishing on the Hub: model cards, licences, origins of weights and data, and the push."""
