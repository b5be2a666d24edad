"""Descriptors of the gRPC services of this server."""

from sessiond.v1 import (
    admin_service_pb2,
    asset_service_pb2,
    bookmark_service_pb2,
    conversation_service_pb2,
    processing_service_pb2,
    session_service_pb2,
    task_service_pb2,
)

SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"],
    bookmark_service_pb2.DESCRIPTOR.services_by_name["BookmarkService"],
    processing_service_pb2.DESCRIPTOR.services_by_name["ProcessingService"],
    asset_service_pb2.DESCRIPTOR.services_by_name["AssetService"],
    conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
