"""The condition keys that requests here have ("Actions, resources, and condition keys for AWS services")."""

from __future__ import annotations

_OWN = ("aws:", "sagemaker:", "ec2:", "logs:", "cloudwatch:", "iam:", "sts:", "kms:", "phalanx:", "s3:")
"""Prefixes of the keys that a request to a service of ours may have. Others never have a value, as on AWS."""

_KNOWN = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:multifactorauthpresent",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principaltype",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:securetransport",
        "aws:sourceip",
        "aws:tagkeys",
        "aws:tokenissuetime",
        "aws:useragent",
        "aws:userid",
        "aws:username",
        "aws:viaawsservice",
        "ec2:createaction",
        "ec2:region",
        "ec2:vpc",
        "iam:passedtoservice",
        "iam:policyarn",
        "kms:encryptioncontextkeys",
        "s3:delimiter",
        "s3:if-match",
        "s3:if-none-match",
        "s3:max-keys",
        "s3:prefix",
        "s3:x-amz-acl",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "sagemaker:enableremotedebug",
        "sagemaker:instancetypes",
        "sagemaker:intercontainertrafficencryption",
        "sagemaker:keepaliveperiod",
        "sagemaker:maxruntimeinseconds",
        "sagemaker:networkisolation",
        "sagemaker:outputkmskey",
        "sagemaker:volumekmskey",
        "sagemaker:vpcsecuritygroupids",
        "sagemaker:vpcsubnets",
        "sts:externalid",
        "sts:rolesessionname",
    }
)
_WITH_A_NAME = (
    "aws:requesttag/",
    "aws:resourcetag/",
    "aws:principaltag/",
    "sagemaker:resourcetag/",
    "ec2:resourcetag/",
    "iam:resourcetag/",
    "kms:encryptioncontext:",
    # Objects have no tags here: nothing else would AWS say of one without.
    "s3:existingobjecttag/",
    "s3:requestobjecttag/",
)


def unknown(key: str) -> bool:
    """Whether a policy's condition would wait in vain for this key, which AWS would give a value: a denial by it would never
    come about."""
    folded = key.lower()
    return folded.startswith(_OWN) and folded not in _KNOWN and not folded.startswith(_WITH_A_NAME)
