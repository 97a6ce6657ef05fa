"""The actions of ``agent-identity trust``."""
