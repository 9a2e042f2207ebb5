"""Third-party weights: read without executing any code, checked before they are used."""
