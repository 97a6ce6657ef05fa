"""What adapters of agent frameworks are made of: guards of tools by name, and accounting for prompts."""
