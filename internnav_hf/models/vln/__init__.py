"""Seq2Seq and CMA, the recurrent models of vision-and-language navigation."""
