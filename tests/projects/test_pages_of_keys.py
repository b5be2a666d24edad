"""AdminService: pages of keys, and projects that exist already."""

from sessiond.v1 import admin_service_pb2 as admin

from ..support.wire import Wire, error_of


async def test_keys_are_listed_by_pages_the_newest_first(wire: Wire) -> None:
    for i in range(5):
        await wire.admin.CreateApiKey(admin.CreateApiKeyRequest(project="default", label=str(i)))
    request = admin.ListApiKeysRequest(project="default", page_size=2)
    pages = []
    while True:
        page = await wire.admin.ListApiKeys(request)
        pages.append([key.label for key in page.keys])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert pages == [["4", "3"], ["2", "1"], ["0"]]


async def test_a_project_is_made_once(wire: Wire) -> None:
    request = admin.CreateProjectRequest(project=admin.Project(name="p"), get_or_create=True)
    first = await wire.admin.CreateProject(request)
    assert await wire.admin.CreateProject(request) == first
    request.get_or_create = False
    assert (await error_of(wire.admin.CreateProject(request))).reason == "PROJECT_ALREADY_EXISTS"
