"""What goes to the Hub beside the weights: cards, licences, origins, and the push itself."""
