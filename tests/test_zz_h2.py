def test_x(docker_compose_file, postgres_database, mongo_database, redis_proxy, request):
    print(docker_compose_file, postgres_database, redis_proxy)
