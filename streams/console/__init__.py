"""The web console: one page that watches what runs, served beside it."""
