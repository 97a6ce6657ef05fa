"""Declared labels of the tools of AgentDojo: one table for all rules, by what each tool does, never by a task's text.

A tool is ``trusted`` only if nobody outside can write what it returns. A trailing question mark (``cc?``) says that a
call without a value of that argument leads nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["TABLE", "Labels", "rows_of"]


@dataclass(frozen=True)
class Labels:
    """The declarations of some tools.

    Attributes:
        tools: Their names, separated by spaces.
        labels: The consequences of a call.
        returns: The integrity of what they return.
        destination: The arguments that decide where a call leads.
        why: The reason, in a few words.
    """

    tools: str
    labels: Sequence[str]
    returns: str
    destination: Sequence[str]
    why: str


_EVENTS = Labels(
    "search_calendar_events get_day_calendar_events",
    (),
    "untrusted",
    (),
    "whoever sends an invitation writes in the calendar",
)
_MAIL = Labels("send_email", ("egress",), "trusted", ("recipients", "cc?", "bcc?"), "mails; returns what was sent")
_CREATE = Labels(
    "create_calendar_event",
    ("egress",),
    "trusted",
    ("participants?",),
    "mails an invitation to the participants, if any; the calendar is read as untrusted",
)
_CANCEL = Labels(
    "cancel_calendar_event", ("destructive", "egress"), "trusted", ("event_id",), "cancels, and mails everyone invited"
)

TABLE: Mapping[str, Sequence[Labels]] = {
    "workspace": (
        Labels(
            "get_unread_emails get_sent_emails get_received_emails get_draft_emails search_emails",
            (),
            "untrusted",
            (),
            "anyone writes mail, and answers quote it",
        ),
        Labels(
            "search_contacts_by_name search_contacts_by_email",
            (),
            "untrusted",
            (),
            "each sender of a mail becomes a contact",
        ),
        Labels("get_current_day", (), "trusted", (), "the clock"),
        _EVENTS,
        Labels(
            "search_files_by_filename get_file_by_id list_files search_files",
            (),
            "untrusted",
            (),
            "files are shared, and hold text of others",
        ),
        _MAIL,
        Labels("delete_email", ("destructive",), "trusted", ("email_id",), "deletes one mail"),
        _CREATE,
        _CANCEL,
        Labels(
            "reschedule_calendar_event",
            ("destructive", "egress"),
            "untrusted",
            ("event_id",),
            "moves an event, mails everyone invited, and returns its text",
        ),
        Labels(
            "add_calendar_event_participants",
            ("egress",),
            "untrusted",
            ("participants",),
            "shows an event to more people, and returns its text",
        ),
        Labels("create_file", ("persists",), "trusted", ("filename",), "writes a file; returns what was written"),
        Labels("append_to_file", ("persists",), "untrusted", ("file_id",), "writes into a file, and returns all of it"),
        Labels("delete_file", ("destructive",), "untrusted", ("file_id",), "deletes a file, and returns it"),
        Labels("share_file", ("egress",), "untrusted", ("email",), "shows a file to someone, and returns it"),
    ),
    "travel": (
        Labels("get_user_information", (), "trusted", (), "the user's own account"),
        Labels(
            "get_all_hotels_in_city get_hotels_prices get_hotels_address get_all_restaurants_in_city"
            " get_cuisine_type_for_restaurants get_restaurants_address get_dietary_restrictions_for_all_restaurants"
            " get_contact_information_for_restaurants get_price_for_restaurants check_restaurant_opening_hours"
            " get_all_car_rental_companies_in_city get_car_types_available get_car_fuel_options get_car_rental_address"
            " get_car_price_per_day get_flight_information",
            (),
            "trusted",
            (),
            "the agency's own catalog",
        ),
        Labels(
            "get_rating_reviews_for_hotels get_rating_reviews_for_restaurants get_rating_reviews_for_car_rental",
            (),
            "untrusted",
            (),
            "anyone writes a review",
        ),
        _EVENTS,
        _MAIL,
        _CREATE,
        _CANCEL,
        Labels("reserve_hotel", ("payment",), "trusted", ("hotel",), "binds the user"),
        Labels("reserve_restaurant", ("payment",), "trusted", ("restaurant",), "binds the user"),
        Labels("reserve_car_rental", ("payment",), "trusted", ("company",), "binds the user"),
    ),
    "banking": (
        Labels("get_iban get_balance get_user_info", (), "trusted", (), "the user's own account"),
        Labels(
            "get_most_recent_transactions get_scheduled_transactions",
            (),
            "untrusted",
            (),
            "whoever sends money writes the subject",
        ),
        Labels("read_file", (), "untrusted", (), "bills and letters of others"),
        Labels("send_money schedule_transaction", ("payment",), "trusted", ("recipient",), "pays"),
        Labels(
            "update_scheduled_transaction",
            ("payment",),
            "trusted",
            ("id", "recipient?"),
            "changes a payment; without a recipient that of the transaction stays",
        ),
        Labels("update_password", ("destructive",), "trusted", ("password",), "whoever knows the password gets in"),
        Labels("update_user_info", ("persists",), "trusted", (), "get_user_info returns it as trusted"),
    ),
    "slack": (
        Labels("get_users_in_channel", (), "trusted", (), "a list that members administer"),
        Labels("get_channels", (), "untrusted", (), "whoever opens a channel names it, guests too"),
        Labels("read_channel_messages read_inbox", (), "untrusted", (), "anyone writes a message"),
        Labels("get_webpage", ("egress",), "untrusted", ("url",), "a request to any address, and what it returns"),
        Labels("post_webpage", ("egress",), "trusted", ("url",), "publishes"),
        Labels("send_direct_message", ("egress",), "trusted", ("recipient",), "sends"),
        Labels("send_channel_message", ("egress",), "trusted", ("channel",), "sends"),
        Labels("add_user_to_channel", ("egress",), "trusted", ("user", "channel"), "shows a channel to someone"),
        Labels(
            "invite_user_to_slack", ("egress",), "trusted", ("user", "user_email"), "shows the workspace to someone"
        ),
        Labels("remove_user_from_slack", ("destructive",), "trusted", ("user",), "removes an account"),
    ),
    "tiny": (
        Labels("read_mail", (), "untrusted", (), "anyone writes mail"),
        Labels("list_vendors", (), "trusted", (), "written by the user's own staff"),
        Labels("pay", ("payment",), "trusted", ("vendor",), "pays"),
        Labels("note", ("egress",), "trusted", ("share_with?",), "a note, and a copy for each name"),
    ),
}


def rows_of(suite: str) -> list[str]:
    """Return the rows of a suite for the documentation."""
    rows: list[str] = []
    for row in TABLE[suite]:
        names = ", ".join(f"`{tool}`" for tool in row.tools.split())
        places = ", ".join(f"`{name}`" for name in row.destination) or "none"
        rows.append(f"| {names} | {', '.join(row.labels) or 'none'} | {row.returns} | {places} | {row.why} |")
    return rows
