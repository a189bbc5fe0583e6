"""The image that a node is started from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.ec2session import AwsSession
from mscourse.errors import CloudError

# Canonical publishes the id of the current image of each region under these names. An id in this
# package would be of one region, and of yesterday.
_CURRENT_UBUNTU = (
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/{machine}/hvm/ebs-gp3/ami-id"
)
_MACHINES = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes
    ----------
    id, name, architecture : str
    root_device : str
        The name of its disk.
    root_gb : int
        The size of its disk.
    deprecated_at : str or None
        When it was or will be deprecated, as EC2 writes it.
    """

    id: str
    name: str
    architecture: str
    root_device: str
    root_gb: int
    deprecated_at: str | None = None

    def __str__(self) -> str:
        return f"{self.id} ({self.name})" if self.name else self.id


def find_images(
    session: AwsSession, image_id: str | None, architectures: Iterable[str]
) -> dict[str, Image]:
    """Find the image for each architecture.

    Parameters
    ----------
    session : AwsSession
    image_id : str or None
        The one of the template; None is the current Ubuntu.
    architectures : iterable of str

    Returns
    -------
    dict of Image
        By architecture. One that is given has a single architecture, and is under that.

    Raises
    ------
    CloudError
        It is not in this region, or cannot be used.
    """
    if image_id is not None:
        image = _describe(session, image_id)
        return {image.architecture: image}
    return {
        each: _describe(session, _current_ubuntu(session, each))
        for each in dict.fromkeys(architectures)
    }


def _current_ubuntu(session: AwsSession, architecture: str) -> str:
    if architecture not in _MACHINES:
        raise CloudError(
            f"There is no Ubuntu for {architecture} machines. Set NODE_IMAGE_ID, or another type."
        )
    name = _CURRENT_UBUNTU.format(machine=_MACHINES[architecture])
    try:
        answer = session.call("get_parameter", service="ssm", Name=name)
    except AwsError as error:
        raise AwsError(
            f"The current Ubuntu of {session.region} cannot be looked up. {error} Or set "
            "NODE_IMAGE_ID to an image of this region.",
            code=error.code,
            remedy=error.remedy,
            words=error.words,
        ) from None
    return str(answer["Parameter"]["Value"])


def _describe(session: AwsSession, image_id: str) -> Image:
    images = session.listing("describe_images", "Images", ImageIds=[image_id])
    if not images:
        raise CloudError(
            f"There is no image {image_id} in {session.region}. Set NODE_IMAGE_ID to an image of "
            "this region, or leave it out for the current Ubuntu."
        )
    answer = images[0]
    state = answer.get("State", "available")
    if state != "available":
        raise CloudError(
            f"The image {image_id} cannot be used: it is {state}. Set NODE_IMAGE_ID to another "
            "one, or leave it out for the current Ubuntu."
        )
    root = answer.get("RootDeviceName") or "/dev/sda1"
    sizes = [
        each.get("Ebs", {}).get("VolumeSize", 0)
        for each in answer.get("BlockDeviceMappings", ())
        if each.get("DeviceName") == root
    ]
    return Image(
        image_id,
        answer.get("Name", ""),
        answer["Architecture"],
        root,
        max(sizes, default=0),
        answer.get("DeprecationTime"),
    )
