"""What ails a cascade: findings with their evidence, what would contradict them, and what to do."""
