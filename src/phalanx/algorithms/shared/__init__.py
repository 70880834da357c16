"""Modules that training programs have in common: `image` of each algorithm that uses one holds a link to it."""
