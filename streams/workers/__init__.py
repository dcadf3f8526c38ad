"""The processes of the stages: what runs in one, how they start, and who watches over them."""
