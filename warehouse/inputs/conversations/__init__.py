"""Read finished conversations, with their replies, from files of other tools."""

from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.reader import FORMS, ConversationReader, Form

__all__ = ["FORMS", "Conversation", "ConversationReader", "Form"]
