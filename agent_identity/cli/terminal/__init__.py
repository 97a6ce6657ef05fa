"""What all commands share: words that name sources, and text for people."""
