"""The identity service: its parts, wired."""

from collections.abc import Callable, Hashable, Mapping

from cumulet.core.clock import Clock
from cumulet.core.context import Context, Secret
from cumulet.core.db import Database
from cumulet.core.ids import Ids
from cumulet.identity.bootstrap import Bootstrapped, bootstrap
from cumulet.identity.config import IdentityConfig
from cumulet.identity.service.assignments import Assignments
from cumulet.identity.service.authentication import Authentication
from cumulet.identity.service.catalog import Catalog
from cumulet.identity.service.credentials import Credentials
from cumulet.identity.service.delegation import ApplicationCredentials, Trusts
from cumulet.identity.service.documents import Documents
from cumulet.identity.service.endpoints import Endpoints
from cumulet.identity.service.limits import Limits
from cumulet.identity.service.projects import Projects
from cumulet.identity.service.realm import Realm
from cumulet.identity.service.roles import Roles
from cumulet.identity.service.tokens import Tokens
from cumulet.identity.service.users import Groups, Users
from cumulet.identity.tokens import KeyRing

__all__ = ["IdentityService"]


class IdentityService:
    """Users, projects, roles, tokens, catalogue.

    signal: `Worker.signal` of the worker that runs the requests, which wakes login attempts that wait for their turn.
    """

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        config: IdentityConfig,
        signal: Callable[[Hashable], None] | None = None,
    ) -> None:
        self.config = config
        self.realm = Realm(db, clock=clock, ids=ids, config=config)
        self.tokens = Tokens(self.realm, KeyRing(config.key_folder / "tokens", clock, keys_max=config.keys_max))
        self.authentication = Authentication(self.realm, self.tokens, signal=signal)
        self.catalog = Catalog(self.realm)
        self.projects = Projects(self.realm)
        self.users = Users(self.realm, self.authentication)
        self.groups = Groups(self.realm)
        self.roles = Roles(self.realm)
        self.assignments = Assignments(self.realm, self.tokens)
        self.endpoints = Endpoints(self.realm)
        self.application_credentials = ApplicationCredentials(self.realm)
        self.trusts = Trusts(self.realm, self.tokens)
        # apart from the tokens' keys: those are rotated away, these secrets must stay readable
        self.credentials = Credentials(self.realm, KeyRing(config.key_folder / "credentials", clock))
        self.limits = Limits(self.realm)
        self.documents = Documents(self.realm)

    def bootstrap(
        self,
        *,
        admin_password: Secret,
        demo_password: Secret,
        endpoints: Mapping[str, str] | None = None,
        service_secrets: Mapping[str, Secret] | None = None,
    ) -> Bootstrapped:
        """Make the first rows that are missing; see `identity.bootstrap`."""
        return bootstrap(
            self.realm,
            admin_password=admin_password,
            demo_password=demo_password,
            endpoints=endpoints,
            service_secrets=service_secrets,
        )

    def validate(self, token: str, *, window_s: int = 0) -> Context:
        """The caller that a token stands for now, for whoever lives in the same process.  Raises Unauthorized."""
        return self.tokens.validate(token, window_s=window_s).context
