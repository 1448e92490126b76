"""The operations and their rules, the same for every transport."""
