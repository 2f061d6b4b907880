"""Pytree algebra, probe laws, costs, flop counts and argument checks: the ground floor."""
