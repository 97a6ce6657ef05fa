"""The constraint vocabulary that scopes and policies share."""
