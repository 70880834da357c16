"""IAM: users, their access keys, roles, and policies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from phalanx.identity.directory import Directory
from phalanx.services.iam import absent, access_keys, identity_policies, managed, roles, simulate, tags, users
from phalanx.services.iam.entities import Operation
from phalanx.wire.service import Caller, Handler, Members, Service


def service(directory: Directory, keys_changed: Callable[[], None] = lambda: None) -> Service:
    """The IAM service over a directory of identities, which hears of every committed change.

    `keys_changed` is called when a change of somebody's access keys is committed, before it is answered; it must not raise.
    """

    def reading(operation: Operation) -> Handler:
        def handle(caller: Caller, members: Members) -> Members:
            with directory.database.read() as session:
                return operation(session, caller, members)

        return handle

    def writing(operation: Operation) -> Handler:
        def handle(caller: Caller, members: Members) -> Members:
            with directory.write() as session:
                return operation(session, caller, members)

        return handle

    def of_keys(operation: Operation) -> Handler:
        change = writing(operation)

        def handle(caller: Caller, members: Members) -> Members:
            answer = change(caller, members)
            keys_changed()
            return answer

        return handle

    reads: dict[str, Operation] = {
        "GetUser": users.get_user,
        "ListUsers": users.list_users,
        "ListAccessKeys": access_keys.list_access_keys,
        "GetRole": partial(roles.get_role, directory),
        "ListRoles": partial(roles.list_roles, directory),
        "GetPolicy": managed.get_policy,
        "ListPolicies": managed.list_policies,
        "GetPolicyVersion": managed.get_policy_version,
        "ListPolicyVersions": managed.list_policy_versions,
        "ListEntitiesForPolicy": identity_policies.list_entities_for_policy,
        "SimulatePrincipalPolicy": partial(simulate.simulate_principal_policy, directory),
        "SimulateCustomPolicy": simulate.simulate_custom_policy,
        **absent.operations(),
    }
    writes: dict[str, Operation] = {
        "CreateUser": users.create_user,
        "DeleteUser": users.delete_user,
        "CreateRole": roles.create_role,
        "DeleteRole": roles.delete_role,
        "UpdateAssumeRolePolicy": roles.update_assume_role_policy,
        "UpdateRole": roles.update_role,
        "UpdateRoleDescription": roles.update_role_description,
        "CreatePolicy": managed.create_policy,
        "DeletePolicy": managed.delete_policy,
        "CreatePolicyVersion": managed.create_policy_version,
        "DeletePolicyVersion": managed.delete_policy_version,
        "SetDefaultPolicyVersion": managed.set_default_policy_version,
    }
    keys: dict[str, Operation] = {
        "CreateAccessKey": partial(access_keys.create_access_key, directory),
        "UpdateAccessKey": access_keys.update_access_key,
        "DeleteAccessKey": access_keys.delete_access_key,
    }
    for more_reads, more_writes in (
        identity_policies.operations("user"),
        identity_policies.operations("role"),
        tags.operations("User"),
        tags.operations("Role"),
        tags.operations("Policy"),
    ):
        reads |= more_reads
        writes |= more_writes
    return Service(
        "iam",
        {
            **{name: reading(operation) for name, operation in reads.items()},
            **{name: writing(operation) for name, operation in writes.items()},
            **{name: of_keys(operation) for name, operation in keys.items()},
        },
    )
