"""Money: what usage costs. Decimal dollars throughout; an unknown price stays unknown."""
