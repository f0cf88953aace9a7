"""Make the bucket where it is missing; runs inside the MLflow container, before the server."""

import boto3

s3 = boto3.client("s3")
if "leoclr-ops" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket="leoclr-ops")
