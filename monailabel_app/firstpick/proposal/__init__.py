"""The proposal: the ordered batch of picks with their reasons, and its JSON."""

from firstpick.proposal.advice import advise
from firstpick.proposal.exchange import replacement, with_replacement
from firstpick.proposal.facts import pool_hash, prepare
from firstpick.proposal.make import propose
from firstpick.proposal.nouns import SCHEMA, Advice, LivePick, LiveProposal, Pick, Proposal, n_chosen, read_proposal
from firstpick.proposal.rounds import in_round, round_of

__all__ = [
    "SCHEMA",
    "Advice",
    "LivePick",
    "LiveProposal",
    "Pick",
    "Proposal",
    "advise",
    "in_round",
    "n_chosen",
    "pool_hash",
    "prepare",
    "propose",
    "read_proposal",
    "replacement",
    "round_of",
    "with_replacement",
]
