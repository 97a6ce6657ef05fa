"""Commands that decide what agents may do: revocations, approvals, registrations."""
