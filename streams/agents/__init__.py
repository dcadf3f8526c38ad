"""Pure agents, `Batch -> Effects`: enrich, serve, summarize."""
