"""What predicted expression is good for: domains, genes, gene sets and co-expression, beside what was measured."""
